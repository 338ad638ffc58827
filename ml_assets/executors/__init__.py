"""Executor that runs each step in a container of its asset's image: on a Docker engine or as a Kubernetes Job.

- `launch`: the executor; `loop`: the loop that launches a run's steps and manages their containers.
- `launches`: the state of each launch; `scheduling`: selection of the launches that may be ordered; `event_handler`:
  the effects of events.
- `placement`: the rules for where a step runs; `run_images`: the image of an image asset that a run uses; `validation`:
  checks of pools, images and overrides when the code location loads.
- `engine`: the interface of container engines; `docker` and `kubernetes` implement it.
- `container_request`: the request for a container; `image_check`: the check that it runs the requested image.
- `diagnosis`: the decision to give up a container; `failures`: the failure causes and the reaction to each.
- `pool_slots`: slots of Dagster's concurrency pools.
- `run_events`: events that the loop writes; `event_tail`: events that it reads; `resume`: restores a run's state
  from them.
- `database_retry`: retries of database operations while Dagster's database is unreachable, in the loop and in steps.
- `step`: the entry of a step's container; `step_process`: the step itself.
- `sweep`: removes containers whose run has ended.
"""
