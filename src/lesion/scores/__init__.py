"""Stage `scores`: what each candidate weight does to a behaviour's responses, in shards."""
