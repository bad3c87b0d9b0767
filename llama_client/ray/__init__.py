"""Ray: `ChatStage`, a stage for Ray Data's pipelines, and the engine behind `client.bulk(..., engine="ray")`.

It stands above the client. Ray itself is imported only where it is used.
"""

from llama_client.ray.stage import ChatStage

__all__ = ["ChatStage"]
