"""Fuzzes the registry's storage: random damage, then deletes and a collection with the real programs.

stores.py     small storages with images of every kind
damage.py     one random change of a file or directory, as a power loss, a restore or an attacker makes it
judge.py      which tags can be pulled, found out without any code of sysreg_cli
pristine.py   the storage before the damage: what a client can push again
remedies.py   the remedies in messages, as a person reads them
run.py        the trials of many seeds: python -m tests.fuzz.storage.run
trial.py      one damaged storage: delete tags, collect, type the remedies, and check what must hold
"""
