"""Asks language models over the OpenAI protocol: a call goes in, an outcome comes out, and each is paid for once."""
