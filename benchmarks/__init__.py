"""How fast the library is beside plain pika, measured side by side; run by ``scripts/bench``.

- `figures` lists what is measured; `experiment` has the words for it.
- `ours` and `plain_pika` have the programs that are measured: one class per role, no cleverness.
- `runner` starts them as processes of their own and gives them turns; `worker` is such a process.
- `report` and `plots` write down what came out; `profiles` says where the time goes.

`codec` and `import_cost` need no broker and are programs of their own.
"""
