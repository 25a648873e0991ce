"""One network with switches for the families with rotary positions: Llama, Mistral, Qwen, OLMo, Gemma and others."""
