"""Steps as containers, one at a time in its asset's image: on a Docker engine, or as Jobs of a Kubernetes cluster.

- `launch`: the executor; `loop`: the loop that launches a run's steps and looks after their containers.
- `launches`: the state of each launch; `scheduling`: which may be ordered; `event_handler`: what events change.
- `placement`: the rules for where a step runs; `run_images`: the image that a run has of an image asset; `validation`:
  checks of pools, images and overrides as the code location loads.
- `engine`: the interface of container engines; `docker` and `kubernetes` implement it.
- `container_request`: the container that an engine is asked for; `image_check`: whether it runs the image asked for.
- `diagnosis`: whether a container has to be given up; `failures`: the causes, and what follows from each.
- `pool_slots`: slots of Dagster's concurrency pools.
- `run_events`: events that the loop writes; `event_tail`: events that it reads; `resume`: what a successor
  learns from them.
- `database_retry`: operations that wait while Dagster's database is away, in the loop and in steps.
- `step`: the entry of a step's container; `step_process`: the step itself.
- `sweep`: removes containers whose run has ended.
"""
