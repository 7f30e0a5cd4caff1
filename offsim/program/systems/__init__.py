"""One page per offload policy: its parameters, refusals, commands, candidates and launch lines.

A page is a module or a small package here with one subclass of `offsim.program.offloading.page.Page`;
`offsim.program.pages` finds it by scanning this folder, so a new one needs no entry anywhere.
"""
