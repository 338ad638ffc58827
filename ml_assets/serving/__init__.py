"""The model server: one model by reference, over the Open Inference Protocol v2 and MLflow's ``/invocations``.

It imports nothing of Dagster, DVC, MLflow or a training library. From the outside in:

* ``settings`` reads the environment; ``reference``, ``tracking`` and ``content`` turn a reference into verified files;
* ``supervisor`` owns the listening socket and one ``generation`` at a time, which loads the model and forks ``worker``
  processes; a new version is a new generation;
* ``application`` is what a worker answers with: ``inference_protocol`` and ``invocations`` translate, ``batching``
  runs;
* ``servable`` is the model: ``signature``, ``tensors`` and ``tables`` say what goes in and comes out;
* ``metrics``, ``observation``, ``logs`` and ``tracing`` are what is seen from outside.
"""
