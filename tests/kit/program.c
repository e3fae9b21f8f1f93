#include "tests/kit/program.h"

#include "base/check.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 64, ENVIRONMENT_MAX = 32 };

static void own_path(char path[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 64);
    check(n > 0 && n < PATH_MAX - 64);
    path[n] = 0;
}

/* build/MODE/tests/wire/test_x -> build/MODE/NAME */
void program_path(const char *name, char path[PATH_MAX])
{
    own_path(path);
    check(strlen(name) < 32);
    char *tests = strstr(path, "/tests/");
    for (char *next; tests && (next = strstr(tests + 1, "/tests/")); tests = next) {
    }
    check(tests);
    sprintf(tests, "/%s", name);
}

void program_own_mounts(void)
{
    static const char mark[] = "TEST_HAS_OWN_MOUNTS";
    char path[PATH_MAX];
    own_path(path);
    if (getenv(mark) || unshare(CLONE_NEWNS) != 0) {
        return;
    }
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    check(setenv(mark, "1", 1) == 0);
    int failed = execv(path, (char *[]){path, NULL});
    check(failed == 0);
}

static void fill_environment(const char *const *more, const char *environment[ENVIRONMENT_MAX])
{
    static const char *const kept[] = {
        "PATH=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "TSAN_OPTIONS=", "TMPDIR="};
    int count = 0;
    for (char **entry = environ; *entry; entry++) {
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
            if (strncmp(*entry, kept[i], strlen(kept[i])) == 0) {
                environment[count++] = *entry;
            }
        }
    }
    for (; more && *more; more++) {
        check(count + 1 < ENVIRONMENT_MAX);
        environment[count++] = *more;
    }
    environment[count] = NULL;
}

struct program *program_start(const struct program_options *o)
{
    char path[PATH_MAX];
    const char *argv[ARGUMENTS_MAX] = {path};
    const char *environment[ENVIRONMENT_MAX];
    int out[2];
    int errors[2];
    int argc = 1;
    program_path(o->name, path);
    for (const char *const *a = o->arguments; a && *a; a++) {
        check(argc + 1 < ARGUMENTS_MAX);
        argv[argc++] = *a;
    }
    fill_environment(o->environment, environment);
    check(pipe2(out, O_CLOEXEC) == 0 && pipe2(errors, O_CLOEXEC) == 0);
    struct program *p = mem_need_zero(1, sizeof *p);
    pid_t parent = getpid();
    p->pid = fork();
    check(p->pid >= 0);
    if (p->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int quiet = open("/dev/null", O_RDWR);
        if (getppid() == parent && quiet >= 0 && dup2(quiet, STDIN_FILENO) >= 0 &&
            dup2(out[1], STDOUT_FILENO) >= 0 && dup2(errors[1], STDERR_FILENO) >= 0) {
            close(quiet);
            if (o->prepare) {
                o->prepare(o->ctx);
            }
            execve(path, (char *const *)argv, (char *const *)environment);
        }
        _exit(127);
    }
    close(out[1]);
    close(errors[1]);
    p->fds[0] = out[0];
    p->fds[1] = errors[0];
    return p;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void fail_with_output(struct program *p, const char *what)
{
    print_error("---- standard output\n%s---- standard error\n%s----\n", buf_text(&p->out),
                buf_text(&p->errors));
    fail_msg("%s", what); /* who started it still has it */
}

/* Reads some of what it writes. False: there is no more, or the time is over. */
static bool take_some(struct program *p, int64_t deadline_ms)
{
    struct pollfd polls[2] = {
        {.fd = p->fds[0], .events = POLLIN},
        {.fd = p->fds[1], .events = POLLIN}
    };
    int64_t left_ms = deadline_ms - now_ms();
    if (left_ms <= 0 || (p->fds[0] < 0 && p->fds[1] < 0)) {
        return false;
    }
    int ready = poll(polls, 2, (int)left_ms);
    check(ready >= 0 || errno == EINTR);
    for (int i = 0; ready > 0 && i < 2; i++) {
        char piece[4096];
        if (polls[i].revents) {
            ssize_t n = read(p->fds[i], piece, sizeof piece);
            if (n > 0) {
                buf_add(i == 0 ? &p->out : &p->errors, piece, (size_t)n);
            } else {
                close(p->fds[i]);
                p->fds[i] = -1;
            }
        }
    }
    return true;
}

const char *program_await(struct program *p, const char *text)
{
    int64_t deadline_ms = now_ms() + PROGRAM_LIMIT_S * 1000;
    for (;;) {
        const char *hit = strstr(buf_text(&p->errors), text);
        if (hit && strchr(hit, '\n')) {
            return hit + strlen(text);
        }
        if (!take_some(p, deadline_ms)) {
            char what[300];
            snprintf(what, sizeof what, "its standard error does not say \"%s\"", text);
            fail_with_output(p, what);
        }
    }
}

uint16_t program_port(struct program *p, const char *host)
{
    char text[128];
    unsigned port = 0;
    snprintf(text, sizeof text, "event=listening addr=%s:", host);
    assert_int_equal(sscanf(program_await(p, text), "%u", &port), 1);
    return (uint16_t)port;
}

int program_wait(struct program *p)
{
    int64_t deadline_ms = now_ms() + PROGRAM_LIMIT_S * 1000;
    int status;
    check(p->pid > 0);
    while (take_some(p, deadline_ms)) { /* both ends close when it ends */
    }
    if (p->fds[0] >= 0 || p->fds[1] >= 0) {
        fail_with_output(p, "it does not end");
    }
    check(waitpid(p->pid, &status, 0) == p->pid);
    p->pid = 0;
    p->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return p->code;
}

void program_destroy(struct program *p)
{
    if (!p) {
        return;
    }
    if (p->pid > 0) {
        check(kill(p->pid, SIGKILL) == 0 && waitpid(p->pid, NULL, 0) == p->pid);
    }
    for (int i = 0; i < 2; i++) {
        if (p->fds[i] >= 0) {
            close(p->fds[i]);
        }
    }
    buf_finish(&p->out);
    buf_finish(&p->errors);
    mem_free(p);
}

struct program *program_run(const char *const *arguments)
{
    const struct program_options o = {.name = "rivuletd", .arguments = arguments};
    struct program *p = program_start(&o);
    program_wait(p);
    return p;
}
