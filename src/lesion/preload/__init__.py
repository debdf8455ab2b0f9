"""Jobs of one machine are forked from a process that has already imported what they need.

Importing torch and transformers takes seconds, and a study has a hundred jobs. The Snakefile starts
one server (`server.py`), and every job's command begins with a client (`client.py`) that hands its
script over: the server forks, and the fork runs the script with the client's files, folder and
environment. Where that is not possible, the client runs the command itself.

A model job has its own process and its own memory either way. CUDA does not survive a fork once it
has been used, so nothing is preloaded on a machine with a GPU.
"""

from lesion.preload.start import preload

__all__ = ["preload"]
