"""The model server: one model by reference, over the Open Inference Protocol v2 and MLflow's ``/invocations``.

The package imports no Dagster, DVC, MLflow or training library. From the outside in:

* ``settings`` reads the environment; ``reference``, ``tracking`` and ``model_files`` resolve a reference to files;
* ``supervisor`` owns the listening socket and one ``generation`` at a time, which loads the model and forks ``worker``
  processes; a new version is a new generation;
* ``application`` answers a worker's requests: ``inference_protocol`` and ``invocations`` translate them, ``batching``
  runs the model;
* ``servable`` is the model: ``signature``, ``tensors`` and ``tables`` define its inputs and outputs;
* ``metrics``, ``drift_stats``, ``logs`` and ``tracing`` make the server observable.
"""
