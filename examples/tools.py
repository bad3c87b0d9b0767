"""A model that uses your functions: it asks for them, your program runs them, and it answers with what they said.

The model is played by a stand-in here, so that this runs without keys: it reads a question's names and numbers, and
knows no better. The tools, the round and what happens to wrong arguments are as with any model. At the end a model in
this process is asked, which has no tools: run it after `llama-client pull smollm2-135m`. Expected output:

    asks for: forecast {"city": "Tokyo", "days": 2}
    tool: Tokyo: 2 days of sun.
    answer: Tokyo: 2 days of sun.
    asks for: forecast {"city": "Tokyo", "days": 3}
    asks for: forecast {"city": "Berlin", "days": 3}
    tool: Tokyo: 3 days of sun.
    tool: Berlin: 3 days of rain.
    answer: Tokyo: 3 days of sun. Berlin: 3 days of rain.
    asks for: forecast {"city": "Tokyo", "days": 30}
    tool: error: days: Input should be less than or equal to 7
    asks for: forecast {"city": "Tokyo", "days": 7}
    tool: Tokyo: 7 days of sun.
    answer: Tokyo: 7 days of sun.
    the same with ollama/llama3.1:8b: Tokyo: 2 days of sun.
    refused: gguf/smollm2-135m cannot honour tools: the model's chat template has no tools
"""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from standin import standin

from llama_client import LlamaClient, ToolCall, UnsupportedFeatureError

MAX_ROUNDS = 5


class Forecast(BaseModel):
    """The weather of the next days."""

    city: str = Field(description="The town, without its country")
    days: int = Field(ge=1, le=7, description="How many days")


def forecast(wanted: Forecast) -> str:
    """A function of your program."""
    weather = {"Tokyo": "sun", "Berlin": "rain"}[wanted.city]
    return f"{wanted.city}: {wanted.days} days of {weather}."


# The name under which the model knows a function; what it takes; the function.
FUNCTIONS: dict[str, tuple[type[BaseModel], Callable[[Any], str]]] = {"forecast": (Forecast, forecast)}
TOOLS = [
    {
        "type": "function",
        # A plain JSON schema does as well as one that Pydantic makes.
        "function": {"name": name, "description": form.__doc__, "parameters": form.model_json_schema()},
    }
    for name, (form, _) in FUNCTIONS.items()
]


def run(call: ToolCall) -> str:
    """Runs a function as the model asked; errors go back to the model, which may try again."""
    form, function = FUNCTIONS.get(call.function.name, (None, None))
    if form is None or function is None:
        return f"error: there is no tool {call.function.name}; there are: {', '.join(FUNCTIONS)}"
    try:
        return function(form.model_validate_json(call.function.arguments))
    except ValidationError as error:
        first = error.errors()[0]
        return f"error: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except KeyError as error:
        return f"error: nothing is known of {error}"


def answer(client: LlamaClient, question: str, *, model: str, show: Callable[[str], None] = print) -> str:
    """The whole round. A model that never comes to an end is stopped."""
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(MAX_ROUNDS):
        reply = client.chat.completions.create(model=model, messages=messages, tools=TOOLS, temperature=0)
        message = reply.choices[0].message
        if not message.tool_calls:
            return reply.text
        messages.append(message)
        for call in message.tool_calls:
            show(f"asks for: {call.function.name} {call.function.arguments}")
        for call in message.tool_calls:
            result = run(call)
            show(f"tool: {result}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    raise RuntimeError(f"no answer after {MAX_ROUNDS} rounds")


with standin() as url:
    providers = {"groq": {"api_key": "a-key", "base_url": url}, "ollama": {"base_url": url}}
    with LlamaClient({"providers": providers}) as client:
        for question in (
            "What is the forecast for Tokyo for 2 days?",
            "What is the forecast for Tokyo and Berlin for 3 days?",
            "What is the forecast for Tokyo for 30 days?",
        ):
            print("answer:", answer(client, question, model="groq/openai/gpt-oss-20b"))

        # Each provider has its own way to write tools down; the program does not change.
        local, question = "ollama/llama3.1:8b", "What is the forecast for Tokyo for 2 days?"
        print(f"the same with {local}:", answer(client, question, model=local, show=lambda _: None))

        # The demo model is one that knows no tools, and is not asked to guess.
        try:
            answer(client, question, model="gguf/smollm2-135m")
        except UnsupportedFeatureError as error:
            print("refused:", error)
