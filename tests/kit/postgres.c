#include "tests/kit/postgres.h"

#include "base/check.h"
#include "base/mem.h"

#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_S = 60, POLL_MS = 5 };

/* Who runs it. */
struct user {
    bool other; /* than us */
    uid_t uid;
    gid_t gid;
};

static struct user user_find(void)
{
    struct user u = {.uid = geteuid(), .gid = getegid()};
    if (u.uid == 0) {
        const struct passwd *entry = getpwnam("postgres");
        entry = entry ? entry : getpwnam("nobody");
        check(entry);
        u = (struct user){.other = true, .uid = entry->pw_uid, .gid = entry->pw_gid};
    }
    return u;
}

/* Debian keeps them beside the PATH. */
static void find_program(const char *name, char path[PATH_MAX])
{
    char pattern[128];
    glob_t found = {0};
    snprintf(pattern, sizeof pattern, "/usr/lib/postgresql/*/bin/%s", name);
    bool there = glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc;
    snprintf(path, PATH_MAX, "%s", there ? found.gl_pathv[found.gl_pathc - 1] : name);
    globfree(&found);
}

/* A program of PostgreSQL's in the server's directory; what it says goes to DIR/log. argv[0] becomes
 * its path, by which it finds the others. */
static pid_t spawn(const struct postgres *p, char **argv)
{
    struct user u = user_find();
    char program[PATH_MAX], log[TEMP_DIR_SIZE + 8];
    find_program(argv[0], program);
    argv[0] = program;
    snprintf(log, sizeof log, "%s/log", p->dir);
    pid_t parent = getpid();
    pid_t pid = fork();
    check(pid >= 0);
    if (pid > 0) {
        return pid;
    }
    int quiet = open("/dev/null", O_RDONLY);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if ((!u.other || (setgroups(0, NULL) == 0 && setgid(u.gid) == 0 && setuid(u.uid) == 0)) &&
        prctl(PR_SET_PDEATHSIG, SIGQUIT) == 0 && getppid() == parent && chdir(p->dir) == 0 &&
        dup2(quiet, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
        dup2(out, STDERR_FILENO) >= 0) {
        execvp(program, argv);
    }
    perror(program); /* or TMPDIR is not that user's to go through */
    _exit(127);
}

static _Noreturn void give_up(const struct postgres *p, const char *what)
{
    char line[512], path[TEMP_DIR_SIZE + 8];
    snprintf(path, sizeof path, "%s/log", p->dir);
    FILE *log = fopen(path, "r");
    fprintf(stderr, "%s (the package postgresql is needed, see tools/packaging/deps.sh):\n", what);
    while (log && fgets(line, sizeof line, log)) {
        fputs(line, stderr);
    }
    check(false && "PostgreSQL does not run");
    _exit(EXIT_INVARIANT);
}

static bool is_ready(const struct postgres *p)
{
    char line[256], path[TEMP_DIR_SIZE + 32];
    snprintf(path, sizeof path, "%s/data/postmaster.pid", p->dir);
    FILE *f = fopen(path, "r");
    bool ours = false, ready = false;
    for (int i = 0; f && fgets(line, sizeof line, f); i++) {
        int pid = 0;
        ours |= i == 0 && sscanf(line, "%d", &pid) == 1 && pid == p->pid;
        ready |= i == 7 && strncmp(line, "ready", 5) == 0;
    }
    if (f) {
        fclose(f);
    }
    return ours && ready;
}

void postgres_start(struct postgres *p)
{
    char *argv[] = {"postgres",
                    "-D",
                    "data",
                    "-k",
                    p->dir,
                    "-c",
                    "listen_addresses=",
                    "-c",
                    "max_connections=30",
                    "-c",
                    "shared_buffers=16MB",
                    NULL};
    check(p->pid == 0);
    p->pid = spawn(p, argv);
    for (int waited_ms = 0; !is_ready(p); waited_ms += POLL_MS) {
        if (waited_ms >= LIMIT_S * 1000 || waitpid(p->pid, NULL, WNOHANG) == p->pid) {
            give_up(p, "postgres does not start");
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
}

struct postgres *postgres_create(void)
{
    struct postgres *p = mem_need_zero(1, sizeof *p);
    struct user u = user_find();
    int status;
    char *argv[] = {"initdb", "-D",   "data",       "-U",        "rivulet",           "-A", "trust",
                    "-E",     "UTF8", "--locale=C", "--no-sync", "--no-instructions", NULL};
    temp_dir_make(p->dir);
    check(!u.other || chown(p->dir, u.uid, u.gid) == 0);
    snprintf(p->conninfo, sizeof p->conninfo, "host=%s user=rivulet dbname=postgres", p->dir);
    pid_t pid = spawn(p, argv);
    check(waitpid(pid, &status, 0) == pid);
    if (status) {
        give_up(p, "initdb failed");
    }
    postgres_start(p);
    return p;
}

void postgres_crash(struct postgres *p)
{
    int status;
    check(p->pid > 0);
    check(kill(p->pid, SIGQUIT) == 0);
    check(waitpid(p->pid, &status, 0) == p->pid);
    p->pid = 0;
}

void postgres_destroy(struct postgres *p)
{
    if (!p) {
        return;
    }
    if (p->pid > 0) {
        postgres_crash(p);
    }
    temp_dir_remove(p->dir);
    mem_free(p);
}
