"""The command line: one file a command, the only room that sees both the client and the collector.

``__main__`` is the entry point and ``_root`` the list of commands. What the viewing commands share: ``_client`` asks
the collector, ``_tree`` puts spans in order, ``_render`` draws them, ``_text`` makes hostile text harmless and
``_terminal`` knows the terminal. Nothing here is imported by the client or by the collector.
"""
