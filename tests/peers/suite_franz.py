"""franz-go, pinned in franz/go.mod and go.sum."""
import toolchains

NEEDS = ("go",)
SETTINGS = ("num.partitions=1",)


def prepare():
    toolchains.go_program()


def run(ctx):
    ctx.program([toolchains.go_program()], 240)
