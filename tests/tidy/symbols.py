"""What the objects that ship may hold and call: no writable globals; memory, time, files and sockets only through the rooms that own them."""
import glob
import re
import subprocess
import sys

ROOMS = ("base", "protocol", "client", "broker", "tools", "gen")
OWNERS = [
    ("memory", r"(malloc|calloc|realloc|reallocarray|free|strdup|strndup|posix_memalign|aligned_alloc|asprintf|vasprintf)",
     r"base/mem\.o"),
    ("time", r"(clock_gettime|gettimeofday|time|uv_now|uv_hrtime)", r"base/clock\.o"),
    ("files",
     r"(open|open64|openat|openat64|creat|pread|pread64|pwrite|pwrite64|preadv2|pwritev|pwritev64|fdatasync|fsync|rename|renameat|unlink|"
     r"unlinkat|ftruncate|ftruncate64|mkdirat|mkdir|rmdir|opendir|fdopendir|fopen|fopen64)",
     r"(broker/store/.*|broker/main|broker/net/(net|listener)|tools/.*)\.o"),  # net keeps a spare descriptor
    ("sockets", r"(socket|bind|listen|accept|accept4|connect|send|sendto|sendmsg|recv|recvfrom|recvmsg|sendfile|sendfile64|getaddrinfo)",
     r"(broker/net/.*|client/conn|client/socket|tools/bench.*)\.o"),
]


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main():
    top = sys.argv[1]
    bad = 0
    objects = sorted(o for room in ROOMS for o in glob.glob(f"{top}/{room}/**/*.o", recursive=True))
    if not objects:
        print(f"no objects in {top}: make first")
        return 1
    for path in objects:
        name = path[len(top) + 1:]
        for line in run("objdump", "-h", path).splitlines():
            words = line.split()
            if len(words) > 2 and re.match(r"\.(data|bss|tdata|tbss)(\.|$)", words[1]) and not words[1].startswith(".data.rel.ro") \
                    and int(words[2], 16) > 0:
                print(f"{name}: {int(words[2], 16)} bytes in {words[1]}: a writable global")
                bad += 1
        called = set(run("nm", "-u", "--format=just-symbols", path).split())
        for what, pattern, owner in OWNERS:
            if re.fullmatch(owner, name):
                continue
            for symbol in sorted(called):
                if re.fullmatch(pattern, re.sub(r"^__(.*)_chk$|^__(.*)_2$", lambda m: m.group(1) or m.group(2), symbol).split("@")[0]):
                    print(f"{name}: calls {symbol}: {what} belong to {owner}")
                    bad += 1
    return bad > 0


sys.exit(main())
