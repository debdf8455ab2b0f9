"""Stage `models`: a source becomes a checkpoint folder, and what every later stage does with one.

`prepare` writes the folder; `load` opens it; `candidates` finds the weights that may be scored;
`text` turns pairs into tokens; `generate` and `likelihood` run the model.
"""
