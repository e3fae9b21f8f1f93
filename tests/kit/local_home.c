#include "tests/kit/local_home.h"

#include "base/check.h"
#include "base/mem.h"
#include "tests/kit/local_broker.h"
#include "tests/kit/outside.h"
#include "tests/kit/temp_dir.h"

#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct local_home {
    struct local_broker broker;
    char dir[TEMP_DIR_SIZE]; /* the data are in it */
    char address[32];
    const char *const *settings; /* borrowed */
    bool up;
    bool outside; /* not ours: see outside.h */
};

static void up(struct local_home *h, uint16_t port)
{
    if (h->outside) {
        outside_control("start");
        h->up = true;
        return;
    }
    char data[TEMP_DIR_SIZE + 8];
    snprintf(data, sizeof data, "%s/data", h->dir);
    local_broker_start(&h->broker, data, port, h->settings);
    snprintf(h->address, sizeof h->address, "127.0.0.1:%d", (int)h->broker.port);
    h->up = true;
}

struct local_home *local_home_start(const char *const *settings)
{
    struct local_home *h = mem_need_zero(1, sizeof *h);
    if (outside_address()) {
        outside_clean();
        snprintf(h->address, sizeof h->address, "%s", outside_address());
        h->outside = h->up = true;
        return h;
    }
    temp_dir_make(h->dir);
    h->settings = settings;
    up(h, 0);
    return h;
}

const char *local_home_address(const struct local_home *h)
{
    return h->address;
}

void local_home_stop(struct local_home *h)
{
    if (h->up) {
        if (h->outside) {
            outside_control("stop");
        } else {
            local_broker_stop(&h->broker);
        }
        h->up = false;
    }
}

void local_home_restart(struct local_home *h)
{
    local_home_stop(h);
    up(h, h->broker.port);
}

/* cp -a, so that what it has to keep is kept by those who know. */
static void data_copy(const struct local_home *h, const char *from, const char *to)
{
    char source[TEMP_DIR_SIZE + 8], target[TEMP_DIR_SIZE + 8];
    char cp[] = "cp", a[] = "-a";
    char *const args[] = {cp, a, source, target, NULL};
    pid_t pid;
    int status = -1;
    snprintf(source, sizeof source, "%s/%s", h->dir, from);
    snprintf(target, sizeof target, "%s/%s", h->dir, to);
    check(posix_spawnp(&pid, cp, NULL, NULL, args, environ) == 0);
    check(waitpid(pid, &status, 0) == pid && status == 0);
}

bool local_home_keep(struct local_home *h)
{
    if (h->outside) {
        return false;
    }
    local_home_stop(h);
    data_copy(h, "data", "kept");
    up(h, h->broker.port);
    return true;
}

bool local_home_set_back(struct local_home *h)
{
    if (h->outside) {
        return false;
    }
    char data[TEMP_DIR_SIZE + 8];
    local_home_stop(h);
    snprintf(data, sizeof data, "%s/data", h->dir);
    temp_dir_remove(data);
    data_copy(h, "kept", "data");
    up(h, h->broker.port);
    return true;
}

void local_home_destroy(struct local_home *h)
{
    if (h && h->outside && !h->up) {
        up(h, 0); /* as it was found */
    } else if (h && !h->outside) {
        local_home_stop(h);
        temp_dir_remove(h->dir);
    }
    if (h) {
        mem_free(h);
    }
}
