"""What a YAML may say, and the only home of defaults.

Files: ``recipe`` one training run, whole; its parts ``start`` model and warm start, ``tasks``,
``curriculum``, ``sampling`` completions and steps, ``rewards``, ``objective``, ``evaluation``; ``stages``
what changes in it by step; ``refusals`` data choices that would do nothing; ``sandbox`` how untrusted code
runs; ``sweep`` a question over recipes; ``profile`` a machine, a scale and a meter; ``strict`` the base that
refuses unknown keys; ``reading`` from a name or a file to a model; ``document`` YAML with the line of every
key; ``schema`` validation; ``overrides`` dotted key paths and what they change; ``problems`` what is wrong,
by key path, with what is allowed and the nearest name.

To add an ablatable choice: a model with a ``type`` literal, joined to its union in its part of a recipe;
then one function and one row in the matching table of ``rl``. This room never computes anything with a
choice.
"""
