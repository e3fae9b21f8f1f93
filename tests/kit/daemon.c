#include "tests/kit/daemon.h"

#include "base/check.h"
#include "base/mem.h"
#include "tests/kit/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- its standard error: a pipe, which a thread empties, so that the daemon never waits for us */

struct daemon_errors {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* more text, or the end */
    pthread_t thread;
    int fd;          /* reading end; -1: nobody reads */
    struct buf text; /* owned, under the mutex */
    bool ended;      /* the writing end is closed; under the mutex */
};

static void *collect(void *ctx)
{
    struct daemon_errors *errors = ctx;
    char piece[4096];
    ssize_t n;
    do {
        do {
            n = read(errors->fd, piece, sizeof piece);
        } while (n < 0 && errno == EINTR);
        pthread_mutex_lock(&errors->mutex);
        if (n > 0) {
            buf_add(&errors->text, piece, (size_t)n);
        }
        errors->ended = n <= 0;
        pthread_cond_broadcast(&errors->changed);
        pthread_mutex_unlock(&errors->mutex);
    } while (n > 0);
    return NULL;
}

static struct daemon_errors *errors_create(void)
{
    struct daemon_errors *errors = mem_need_zero(1, sizeof *errors);
    pthread_condattr_t attributes;
    check(pthread_condattr_init(&attributes) == 0);
    check(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    check(pthread_mutex_init(&errors->mutex, NULL) == 0);
    check(pthread_cond_init(&errors->changed, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
    errors->fd = -1;
    return errors;
}

static void errors_open(struct daemon_errors *errors, int fd)
{
    errors->fd = fd;
    errors->ended = false;
    check(pthread_create(&errors->thread, NULL, collect, errors) == 0);
}

static void errors_close(struct daemon_errors *errors)
{
    if (errors->fd >= 0) {
        check(pthread_join(errors->thread, NULL) == 0); /* the daemon is gone: there is an end */
        close(errors->fd);
        errors->fd = -1;
    }
}

static void errors_destroy(struct daemon_errors *errors)
{
    pthread_mutex_destroy(&errors->mutex);
    pthread_cond_destroy(&errors->changed);
    buf_finish(&errors->text);
    mem_free(errors);
}

/* Where the line with `text` ends, at or behind *position; false when there is none by the
 * deadline, or none can come. */
static bool errors_await(struct daemon_errors *errors, size_t *position, const char *text,
                         char line[256])
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += DAEMON_LIMIT_S;
    bool found = false;
    bool late = false;
    pthread_mutex_lock(&errors->mutex);
    for (;;) {
        const char *from = buf_text(&errors->text) + *position;
        const char *hit = strstr(from, text);
        const char *end = hit ? strchr(hit, '\n') : NULL;
        if (end) {
            snprintf(line, 256, "%.*s", (int)(end - hit), hit);
            *position += (size_t)(end + 1 - from);
            found = true;
            break;
        }
        if (errors->ended || late) {
            break;
        }
        late = pthread_cond_timedwait(&errors->changed, &errors->mutex, &deadline) == ETIMEDOUT;
    }
    pthread_mutex_unlock(&errors->mutex);
    return found;
}

const char *daemon_log(struct daemon *d)
{
    d->log.len = 0;
    pthread_mutex_lock(&d->errors->mutex);
    buf_add(&d->log, d->errors->text.ptr, d->errors->text.len);
    pthread_mutex_unlock(&d->errors->mutex);
    return buf_text(&d->log);
}

static void print_log(struct daemon *d) /* cmocka's own functions cut long texts */
{
    fprintf(stderr, "---- the daemon's log\n%s----\n", daemon_log(d));
}

static void fail_with_log(struct daemon *d, const char *what)
{
    print_log(d);
    fail_msg("%s", what);
}

void daemon_await_log(struct daemon *d, const char *text)
{
    char line[256];
    if (!errors_await(d->errors, &d->log_seen, text, line)) {
        char what[300];
        snprintf(what, sizeof what, "the daemon's log does not say \"%s\"", text);
        fail_with_log(d, what);
    }
}

/* ---- the process */

/* In the child, where only async-signal-safe functions may be called. */
static _Noreturn void become(char *const *argv, pid_t parent, int errors_fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int quiet = open("/dev/null", O_RDWR);
    if (getppid() == parent && quiet >= 0 && dup2(quiet, STDIN_FILENO) >= 0 &&
        dup2(quiet, STDOUT_FILENO) >= 0 && dup2(errors_fd, STDERR_FILENO) >= 0) {
        execv(argv[0], argv);
    }
    _exit(127);
}

static void add_argument(struct daemon *d, const char *text)
{
    check(d->argc + 1 < DAEMON_ARGUMENTS_MAX);
    d->argv[d->argc++] = mem_need_dup(text, strlen(text) + 1);
}

void daemon_start(struct daemon *d)
{
    char program[PATH_MAX];
    char listen[32];
    char *argv[DAEMON_ARGUMENTS_MAX + 8] = {program, "--data", d->data, "--listen", listen};
    int ends[2];
    check(d->pid == 0);
    program_path("rivuletd", program);
    snprintf(listen, sizeof listen, "127.0.0.1:%u", d->port);
    memcpy(argv + 5, d->argv, sizeof d->argv);
    check(pipe2(ends, O_CLOEXEC) == 0);
    pid_t parent = getpid();
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        become(argv, parent, ends[1]);
    }
    close(ends[1]);
    d->pid = pid;
    errors_open(d->errors, ends[0]);
    char line[256];
    unsigned port = 0;
    if (!errors_await(d->errors, &d->log_seen, "event=listening addr=127.0.0.1:", line) ||
        sscanf(line, "event=listening addr=127.0.0.1:%u", &port) != 1) {
        fail_with_log(d, "the daemon does not listen");
    }
    d->port = (uint16_t)port;
}

struct daemon *daemon_create(const char *const *settings, const char *const *arguments)
{
    struct daemon *d = mem_need_zero(1, sizeof *d);
    for (; settings && *settings; settings++) {
        add_argument(d, "--set");
        add_argument(d, *settings);
    }
    for (; arguments && *arguments; arguments++) {
        add_argument(d, *arguments);
    }
    d->errors = errors_create();
    temp_dir_make(d->dir);
    snprintf(d->data, sizeof d->data, "%s/data", d->dir);
    daemon_start(d);
    return d;
}

void daemon_signal(struct daemon *d, int signal)
{
    check(d->pid > 0);
    check(kill(d->pid, signal) == 0);
}

static int reaped(struct daemon *d, int status)
{
    d->pid = 0;
    errors_close(d->errors);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool daemon_is_running(struct daemon *d)
{
    int status;
    if (d->pid > 0 && waitpid(d->pid, &status, WNOHANG) == d->pid) {
        reaped(d, status);
    }
    return d->pid > 0;
}

/* Its end is seen through a pid descriptor: there is a deadline, and nothing is polled. */
int daemon_wait(struct daemon *d)
{
    int status;
    check(d->pid > 0);
    int fd = (int)syscall(SYS_pidfd_open, d->pid, 0);
    check(fd >= 0);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long deadline_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000 + DAEMON_LIMIT_S * 1000;
    int ready;
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
        long left_ms = deadline_ms - (now.tv_sec * 1000 + now.tv_nsec / 1000000);
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        ready = poll(&poll_fd, 1, left_ms > 0 ? (int)left_ms : 0);
    } while (ready < 0 && errno == EINTR);
    close(fd);
    if (ready != 1) {
        daemon_kill(d);
        fail_with_log(d, "the daemon does not end");
    }
    check(waitpid(d->pid, &status, 0) == d->pid);
    return reaped(d, status);
}

void daemon_kill(struct daemon *d)
{
    int status;
    daemon_signal(d, SIGKILL);
    check(waitpid(d->pid, &status, 0) == d->pid);
    reaped(d, status);
}

int daemon_stop(struct daemon *d)
{
    daemon_signal(d, SIGTERM);
    return daemon_wait(d);
}

void daemon_restart(struct daemon *d)
{
    int code = daemon_stop(d);
    if (code) {
        fail_with_log(d, "a clean stop ended with another code than 0");
    }
    daemon_start(d);
}

void daemon_destroy(struct daemon *d)
{
    if (!d) {
        return;
    }
    int code = d->pid > 0 ? daemon_stop(d) : 0;
    if (code || getenv("DAEMON_LOG")) {
        print_log(d);
    }
    temp_dir_remove(d->dir);
    errors_destroy(d->errors);
    buf_finish(&d->log);
    for (int i = 0; i < d->argc; i++) {
        mem_free(d->argv[i]);
    }
    mem_free(d);
    assert_int_equal(code, 0);
}
