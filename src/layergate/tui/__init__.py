"""The terminal program: a pure view model, and a thin screen.

`model` holds what is shown and what keys do to it, without a clock, a terminal or a kernel; `frame` draws it as lines
of styled text, `keys` says which key does what; `feed` brings what the kernel tells; `app` is the screen (Textual),
and does nothing but pass keys in and lines out.
"""
