"""Running a past materialization again, without publishing anything, and saying whether it gives the same.

::

    request.py      what is asked: frozen and versioned, for it is read by the code of another time
    verdict.py      what is answered
    pinning.py      the inputs as they were read then
    rerun.py        the asset as it is defined where this runs, materialized aside from everything
    comparison.py   what was made then, beside what is made now
    reproduce.py    all of it: request in, verdict out, and on the MLflow run
    job.py          the job that does this in an image, and logs the verdict
    local.py        without containers: the recorded commit in a folder, the job's work in a process there
    launching.py    with containers: the job in the recorded image
    commands.py     `ml-assets reproduce`
"""
