"""JSON schemas as grammars for llama.cpp. `compiler` is the way in; `classes`: all that a class checks, as a schema."""
