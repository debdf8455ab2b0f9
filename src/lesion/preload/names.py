"""What jobs and the server have in common; a module of its own, because all that a job imports is
part of the digest of its code.
"""

RUN_FOLDER = "LESION_RUN_FOLDER"
"""The environment variable that names, for every job of a run, a folder of this user alone. What
jobs leave there for each other is deleted at the end of the run."""
