"""The earlier studies, with small U-Nets as in the quick start, and their records.

Every RMI loss here starts after a warm-up on cross entropy alone and has no anchor: the recipe that
this project advised before its defaults changed. Activation, factor and anchor are written out, so
that the records go on meaning what they say whatever the library's defaults become.
"""
