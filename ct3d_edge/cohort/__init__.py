"""Which scans a network is made from: a folder divided on record, its contents known, its scans prepared once.

Knows neither Keras nor any runtime: dividing a folder needs neither, and neither do the processes that prepare it.
"""
