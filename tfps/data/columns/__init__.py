"""Columns of Arrow's as tensors: Parquet files, on the chief that cuts and the workers that read.

`kinds` says what each type becomes, `reader` reads in whichever process runs a ticket, and `source`
is the source.
"""
