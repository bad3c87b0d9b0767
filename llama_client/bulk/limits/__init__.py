"""How many requests of a job are in flight, and how often they start: found for each target while the job runs."""

from llama_client.bulk.limits.adaptive import MOST, AdaptiveLimits

__all__ = ["MOST", "AdaptiveLimits"]
