"""lesion: which weights does a behaviour depend on, and what is left when they are zeroed?"""

__version__ = "0.1.0"
