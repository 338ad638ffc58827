"""The model server: one model by reference, over the Open Inference Protocol v2 and MLflow's ``/invocations``.

The package imports no Dagster, DVC, MLflow or training library. Its modules, from the outside in:

* ``settings`` reads the environment; ``reference``, ``tracking`` and ``model_files`` resolve a reference to files;
* ``supervisor`` owns the listening socket and runs a generation for each version of the model: a ``model_process`` that
  loads the model and forks ``worker`` processes;
* ``application`` answers a worker's requests: ``inference_protocol`` and ``invocations`` translate them, ``batching``
  runs the model;
* ``servable`` is the model: ``signature``, ``tensors`` and ``tables`` define its inputs and outputs;
* ``metrics``, ``drift_stats``, ``logs`` and ``tracing`` make the server observable.
"""
