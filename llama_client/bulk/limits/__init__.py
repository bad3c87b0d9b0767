"""How many requests of a job are in flight, and how often they start: found for each target while the job runs."""
