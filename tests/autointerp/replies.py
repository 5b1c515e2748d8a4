"""The bodies that the server answers with: chat completions with usage, log-probabilities and faults in them."""

import hashlib
import json
import math
import re
import time
from typing import Any

CACHE_STEP, CACHE_FROM = 128, 1024
"""As OpenAI caches prompts: by steps of 128 tokens, from 1,024 on."""
OPPOSITES = {"true": "false", "false": "true", "1": "0", "0": "1", "yes": "no", "no": "yes"}
CONFIDENCE = 0.9
"""Probability of every token of an answer; the rest is that of its opposite, or of a stranger."""


class Cache:
    """Which beginnings of prompts were seen."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def look(self, tokens: list[str]) -> int:
        """How many tokens at the front of a prompt were seen before; remembers it."""
        n_cached, digest = 0, hashlib.sha256()
        for start in range(0, len(tokens) - CACHE_STEP + 1, CACHE_STEP):
            digest.update("\0".join(tokens[start : start + CACHE_STEP]).encode())
            key, end = digest.digest(), start + CACHE_STEP
            if key in self._seen and end >= CACHE_FROM:
                n_cached = end
            self._seen.add(key)
        return n_cached


def tokens_of(text: str) -> list[str]:
    """A tokenizer's stand-in: words of up to five letters with the space before them, and everything else singly."""
    return re.findall(r" ?\w{1,5}|[^\w]", text)


def completion(body: dict[str, Any], text: str, fault: str | None, cache: Cache) -> dict[str, Any]:
    """A chat completion."""
    prompt = tokens_of("".join(f"<{message['role']}>{message['content']}" for message in body["messages"]))
    refusal, reason = None, "stop"
    most = body.get("max_tokens") or body.get("max_completion_tokens")
    if fault == "wrong_form":
        text = "Let me think about it: " + text[: len(text) // 2]
    elif fault == "refused":
        text, refusal = "", "I cannot help with that."
    answer = tokens_of(text)
    if fault == "truncated" or len(answer) > most:
        answer, reason = answer[: min(len(answer) // 2, most)], "length"
        text = "".join(answer)
    message = {"role": "assistant", "content": text or None, "refusal": refusal}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [_logprob(token, body.get("top_logprobs", 0)) for token in answer]}
    usage = {
        "prompt_tokens": len(prompt),
        "completion_tokens": len(answer),
        "total_tokens": len(prompt) + len(answer),
        "prompt_tokens_details": {"cached_tokens": cache.look(prompt)},
    }
    return {
        "id": f"chatcmpl-{hashlib.sha256(json.dumps(body).encode()).hexdigest()[:12]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{body['model']}-2026-01-01",
        "system_fingerprint": "fp_test",
        "choices": [choice],
        "usage": usage,
    }


def example_of(messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
    """An answer that fits the schema, or says so without one; differs with what is asked.

    Asked for tagged text or a JSON object, the schema is read from the first message.
    """
    asked = hashlib.sha256(messages[-1]["content"].encode()).hexdigest()
    if schema is not None:
        return json.dumps(_example(schema, asked))
    written = messages[0]["content"].rpartition("JSON schema:\n")[2]
    if not written.startswith("{"):
        return f"answer {asked[:8]}"
    text = json.dumps(_example(json.loads(written), asked))
    return f"Here it is. <answer>{text}</answer>" if "<answer>" in messages[0]["content"] else text


def _example(schema: dict[str, Any], asked: str) -> Any:
    if "enum" in schema:
        return schema["enum"][int(asked[:4], 16) % len(schema["enum"])]
    kind = schema.get("type", "string")
    if kind == "object":
        return {name: _example(part, asked) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_example(schema["items"], asked)] if "items" in schema else []
    return {"boolean": True, "integer": 3, "number": 0.5}.get(kind, f"about {asked[:8]}")


def _logprob(token: str, n_top: int) -> dict[str, Any]:
    other = OPPOSITES.get(token.strip().lower(), "?")
    top = [(token, math.log(CONFIDENCE)), (other, math.log(1 - CONFIDENCE))][:n_top]
    return {
        "token": token,
        "logprob": math.log(CONFIDENCE),
        "bytes": list(token.encode()),
        "top_logprobs": [{"token": name, "logprob": value, "bytes": list(name.encode())} for name, value in top],
    }
