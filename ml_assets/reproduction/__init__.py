"""Reproduction: run a past materialization again, publish nothing, and report whether the result is the same.

::

    request.py      the request: frozen and versioned, because code of another version reads it
    verdict.py      the verdict
    pinning.py      the inputs as the past materialization read them
    rerun.py        materializes the asset, as it is defined here, in isolation
    comparison.py   compares the past result with the new one
    reproduce.py    the whole reproduction: takes a request, returns a verdict, and tags the MLflow run
    job.py          the job that does this in an image and logs the verdict
    local.py        without containers: checks out the recorded commit and runs the job's work in a process there
    launching.py    with containers: runs the job in the recorded image
    commands.py     `ml-assets reproduce`
"""
