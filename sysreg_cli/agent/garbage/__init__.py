"""Garbage collection of the registry's storage (docs/contracts.rst, "Garbage collection").

``store`` reads the storage, ``manifest``, ``mark`` and ``plan`` decide (pure), ``run`` carries the plan out
under the write lock, ``service`` runs one collection at a time and remembers how the last ones ended,
``api`` serves it.
"""
