"""The shapes of a request and of an answer: data, with no behaviour beyond properties."""
