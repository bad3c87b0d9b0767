"""The folder of a job: what it has done, and what it needs to go on."""
