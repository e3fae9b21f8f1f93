#include "tests/kit/local_home.h"

#include "base/mem.h"
#include "tests/kit/local_broker.h"
#include "tests/kit/outside.h"
#include "tests/kit/temp_dir.h"

#include <stdio.h>

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
