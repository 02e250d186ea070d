"""How payloads come in: HTTP, UDP, tailed files. Each knows its transport and hands bytes to ``ingest``, no more."""
