"""What the objects that ship may hold and call: no writable globals; memory, time, files and sockets only through the rooms that own them."""
import glob
import re
import subprocess
import sys

ROOMS = ("base", "protocol", "client", "broker", "tools", "gen")
# What it is, the functions, whose it is, and who besides may call which of them, and why.
OWNERS = [
    ("memory", r"malloc|calloc|realloc|reallocarray|free|cfree|strdup|strndup|posix_memalign|aligned_alloc|memalign|valloc|asprintf|vasprintf|"
     r"scandir(64)?|getline|getdelim|open_memstream|canonicalize_file_name|glob(64)?",
     r"base/mem\.o", []),
    ("time", r"clock_gettime|clock|gettimeofday|time|times|ftime|timespec_get|uv_now|uv_hrtime|uv_gettimeofday|uv_clock_gettime",
     r"base/clock\.o", []),
    ("files",
     r"(f|l)?open(64)?|openat(64)?|creat(64)?|fdopen|freopen(64)?|tmpfile(64)?|mkstemp(64)?|mkostemp(64)?|"
     r"p(read|write)v?2?(64)?(v2)?|fdatasync|fsync|sync|syncfs|sync_file_range|msync|mmap(64)?|rename|renameat2?|unlink|unlinkat|remove|"
     r"f?truncate(64)?|(posix_)?fallocate(64)?|link|linkat|symlink|symlinkat|readlink|readlinkat|mkdir|mkdirat|rmdir|f?opendir|fdopendir|"
     r"readdir(64)?|(f|l)?stat(64)?|fstatat(64)?|statx|f?statvfs(64)?|access|faccessat|f?chmod|f?chown|flock|lockf|realpath|uv_fs_\w+",
     r"base/fileio\.o|broker/store/.*\.o", [
         (r"client/spool/disk\.o", r"open(64)?|unlinkat"),  # the files of a spool, which is a library's own
         (r"broker/main\.o", r"f?open(64)?"),  # the settings, before there is a store; /dev/null for standard files that are closed
         (r"broker/net/(net|listener)\.o", r"open(64)?"),  # a spare descriptor, on /dev/null
         (r"broker/server/server\.o", r"realpath"),  # the data directory's name, to show
         (r"tools/log_(dump|journal|segment|state)\.o", r"fopen(64)?|opendir|readdir(64)?|l?stat(64)?"),  # tools/log_dump.h says why
         (r"client/outbox/lease\.o", r"readlink"),  # which namespace of processes the relay is in
         (r"client/view/snapshot\.o", r"open(64)?|rename|unlink"),  # the file of a view
         (r"tools/files\.o", r"f?open(64)?|fdopen|fstat(64)?|fsync"),  # what the user names, and profiles
         (r"tools/bench_process\.o", r"fopen(64)?|opendir|readdir(64)?"),  # what /proc says of the broker
     ]),
    ("sockets", r"socket|socketpair|bind|listen|accept4?|connect|send|sendto|sendm?msg|recv|recvfrom|recvm?msg|sendfile(64)?|shutdown|"
     r"[gs]etsockopt|get(sock|peer)name|getaddrinfo|getnameinfo|gethostbyname|uv_(tcp|udp|pipe|listen|accept|getaddrinfo)\w*",
     r"broker/net/.*\.o", [
         (r"client/conn\.o", r".*"),
         (r"tools/bench_load\.o", r"connect|getaddrinfo|recv|sendmsg|setsockopt|socket"),  # load without the library in between
     ]),
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
        for what, pattern, owner, others in OWNERS:
            if re.fullmatch(owner, name):
                continue
            for symbol in sorted(called):
                plain = re.sub(r"^__(.*)_chk$|^__(.*)_2$", lambda m: m.group(1) or m.group(2), symbol.split("@")[0])
                if re.fullmatch(pattern, plain) and not any(re.fullmatch(o, name) and re.fullmatch(s, plain) for o, s in others):
                    print(f"{name}: calls {symbol}: {what} belong to {owner}")
                    bad += 1
    return bad > 0


sys.exit(main())
