"""The paper's claims (arXiv 2604.09544), each compared with a number and its interval.

`registry` lists them; `table` makes the table of them. A new claim is one entry of `harm`,
`dissociated` or `training`, with the functions that compute its number and write its sentence.
"""
