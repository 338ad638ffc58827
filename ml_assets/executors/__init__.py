"""Steps as containers, one at a time in its asset's image: on a Docker engine, or as Jobs of a Kubernetes cluster.

- `placement`: where one step runs: image by digest, pool, resources.
- `engine`: what an engine must be able to do; `kubernetes` and `docker` are the two there are.
- `failures`: why a container ended, and what follows from it.
- `launch`: the loop that launches a run's steps and looks after them; `events` reads the event log for it.
- `outages`: waits where Dagster's database is away for a while, in the loop and in steps.
- `step`: what runs inside the container; `step_process`: the step itself.
- `sweep`: removes what no run owns any more.
"""
