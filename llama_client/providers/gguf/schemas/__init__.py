"""JSON schemas as grammars for llama.cpp: `compiler` is the way in, `classes` the schema with all that a class checks."""
