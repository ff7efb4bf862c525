"""Batched greedy captioning.

All prompts of a cell have one length, so keys and values lie in one dense block without padding or
mask, a batch takes as many clips as memory holds, and rows that have ended leave it. All start
together: there is no expected length to sort by. vLLM could take the same prompts (it accepts
embeddings, switched on with ``enable_prompt_embeds``) and would add paged memory and continuous
batching; but it loads the model a second time beside the one just trained, its kernels would make
captions differ from those of the checked path, it pins its own torch, and at the hundred equal
prompts of a cell, which fit memory at once, it has no idle row to fill.
"""

#: Raise it when captions or losses of the same checkpoint come out otherwise.
VERSION = 1
