"""The toolchains that the suites need: found on PATH, old enough or named; what they fetch is kept under build/peers and
in their own caches."""
import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

from broker import ROOT

HERE = pathlib.Path(__file__).resolve().parent
BUILD = ROOT / "build" / "peers"
JARS = BUILD / "java" / "jars"
CLASSES = BUILD / "java" / "classes"
VENV = BUILD / "venv"
NODE = BUILD / "kafkajs"
GO_PEER = BUILD / "franz"

# name: (command that says its version, least version)
TOOLS = {
    "kcat": (["kcat", "-V"], (1, 7)),
    "zstd": (["zstd", "--version"], (1, 4)),
    "java": (["java", "-version"], (17,)),
    "javac": (["javac", "-version"], (17,)),
    "mvn": (["mvn", "-v"], (3, 6)),
    "go": (["go", "version"], (1, 26)),  # as franz/go.mod
    "node": (["node", "-v"], (18,)),
    "npm": (["npm", "-v"], (9,)),
}


class Missing(Exception):
    """A toolchain is not there or too old: which, and what would do."""


class Broken(Exception):
    """A toolchain is there and failed."""


def require(name):
    command, least = TOOLS[name]
    wanted = ".".join(str(n) for n in least)
    if not shutil.which(command[0]):
        raise Missing(f"{name} is missing (at least {wanted} is needed)")
    p = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    text = p.stdout + p.stderr
    found = re.search(r"(\d+)\.(\d+)", text) or re.search(r"(\d+)", text)
    if not found:
        raise Missing(f"{name} does not say its version: {text.strip()[:200]}")
    if tuple(int(n) for n in found.groups())[:len(least)] < least:
        raise Missing(f"{name} {found[0]} is too old: at least {wanted} is needed")


def call(argv, seconds, cwd=None, env=None):
    argv = [str(a) for a in argv]
    try:
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, cwd=cwd, env=env)
    except subprocess.TimeoutExpired:
        raise Broken(f"{' '.join(argv)[:300]}: not done within {seconds} s") from None
    if p.returncode != 0:
        raise Broken(f"{' '.join(argv)[:300]} ended with {p.returncode}\n{p.stdout[-3000:]}{p.stderr[-3000:]}")


def made_from(stamp, files, make):
    """Calls make() unless the stamp says that it was done for these very files."""
    digest = hashlib.sha256()
    for f in sorted(files):
        digest.update(f.name.encode() + b"\0" + f.read_bytes())
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    stamp.parent.mkdir(parents=True, exist_ok=True)
    make()
    stamp.write_text(digest.hexdigest())


@functools.cache
def jars():
    """Kafka's jars, as java/pom.xml pins them."""
    def make():
        require("mvn")
        shutil.rmtree(JARS, ignore_errors=True)
        call(["mvn", "-q", "-B", "-f", HERE / "java" / "pom.xml", "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"],
             600)
    require("java")
    made_from(BUILD / "java" / "jars.stamp", [HERE / "java" / "pom.xml"], make)
    return JARS


@functools.cache
def java_program():
    """The classpath of java/peers, compiled."""
    sources = sorted((HERE / "java" / "peers").glob("*.java"))

    def make():
        shutil.rmtree(CLASSES, ignore_errors=True)
        call(["javac", "-Xlint:all,-processing,-classfile", "-Werror", "-cp", f"{jars()}/*", "-d", CLASSES, *sources], 300)
    require("javac")
    jars()
    made_from(BUILD / "java" / "classes.stamp", [*sources, HERE / "java" / "pom.xml"], make)
    return f"{CLASSES}:{JARS}/*"


@functools.cache
def python():
    """A Python with confluent/requirements.txt."""
    pinned = HERE / "confluent" / "requirements.txt"

    def make():
        shutil.rmtree(VENV, ignore_errors=True)
        try:
            call(["python3", "-m", "venv", VENV], 120)
        except Broken as e:
            raise Missing(f"python3-venv is missing: {e}") from None
        call([VENV / "bin" / "pip", "install", "-q", "--only-binary", ":all:", "-r", pinned], 600)
    made_from(BUILD / "venv.stamp", [pinned], make)
    return VENV / "bin" / "python"


@functools.cache
def go_program():
    sources = [f for f in (HERE / "franz").iterdir() if f.suffix in (".go", ".mod", ".sum")]
    require("go")
    made_from(BUILD / "franz.stamp", sources, lambda: call(
        ["go", "build", "-mod=readonly", "-o", GO_PEER, "."], 600, cwd=HERE / "franz",
        env={**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}))
    return GO_PEER


@functools.cache
def node_program():
    """node's modules as the lock file pins them, beside a copy of the program."""
    require("node")
    require("npm")
    pinned = [HERE / "kafkajs" / "package.json", HERE / "kafkajs" / "package-lock.json"]

    def make():
        shutil.rmtree(NODE, ignore_errors=True)
        NODE.mkdir(parents=True)
        for f in pinned:
            shutil.copy(f, NODE)
        call(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], 600, cwd=NODE)
    made_from(BUILD / "kafkajs.stamp", pinned, make)
    for f in (HERE / "kafkajs").glob("*.js"):
        shutil.copy(f, NODE)
    return NODE / "main.js"
