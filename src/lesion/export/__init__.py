"""A finished study for other tools: data frames, CSV, JailbreakBench's fields, an Inspect task."""
