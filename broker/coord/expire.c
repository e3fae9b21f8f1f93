/* Offsets that time, or the deletion of their topic, takes away. The timer runs while some group
 * has something to lose, and not otherwise: with offsets.retention.minutes=-1 an idle broker does
 * not wake up for it. */
#include "broker/coord/internal.h"

/* Could a GROUP_EVENT_EXPIRE ever do something, as things are? */
static bool can_expire(const struct coord_group *cg)
{
    const struct group *g = cg->g;
    if (g->state == GROUP_EMPTY && g->metadata &&
        (g->offset_count == 0 || g->metadata->member_count > 0)) {
        return true;
    }
    return g->offset_count > 0 &&
           (cg->may_expire || cg->coord->group_config.offsets_retention_ms >= 0);
}

void coord_expiry_consider(struct coord_group *cg)
{
    struct coord *c = cg->coord;
    if (!c->stopping && !timer_armed(&c->expiry) && can_expire(cg)) {
        timer_arm(c->timers, &c->expiry,
                  clock_after_ms(c->clock, c->config->offsets_retention_check_ms));
    }
}

/* ---- deleted topics */

/* The same name may have come back as another topic: its offsets have nothing to do with the old
 * one's. */
static bool is_stale(const struct topic *topic, const struct group_offset *o)
{
    return !topic || (!uuid_is_zero(o->topic_id) && !uuid_eq(o->topic_id, topic->id));
}

/* Appends what is stale of one topic to `offsets`, if there is room given; returns how many there
 * are. */
static size_t find_stale(const struct coord *c, const struct group_topic *t,
                         struct group_commit_offset *offsets)
{
    const struct topic *topic = meta_find(c->meta, t->name);
    size_t n = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (t->offsets[i]->stored && is_stale(topic, t->offsets[i])) {
            if (offsets) {
                offsets[n] = (struct group_commit_offset){.topic = t->name,
                                                          .partition = t->offsets[i]->partition};
            }
            n++;
        }
    }
    return n;
}

static size_t count_stale(const struct coord_group *cg)
{
    size_t n = 0;
    for (struct map_entry *e = map_first(&cg->g->topics); e; e = map_next(e)) {
        n += find_stale(cg->coord, map_value(e), NULL);
    }
    return n;
}

static void drop_stale(struct coord_group *cg)
{
    size_t count = count_stale(cg);
    if (count == 0) {
        return;
    }
    struct group_commit_offset *offsets = mem_need(count * sizeof *offsets);
    size_t n = 0;
    for (struct map_entry *e = map_first(&cg->g->topics); e; e = map_next(e)) {
        n += find_stale(cg->coord, map_value(e), offsets + n);
    }
    check(n == count);
    coord_run(cg, &(struct group_event){
                      .kind = GROUP_EVENT_DELETE_OFFSETS,
                      .delete_offsets = {.offsets = offsets, .offset_count = count}
    });
    mem_free(offsets);
}

void coord_topic_deleted(struct coord *c, struct str topic)
{
    if (c->stopping) {
        return; /* the next start finds them */
    }
    bool found = false;
    list_each_safe(link, after, &c->order)
    {
        struct coord_group *cg = list_entry(link, struct coord_group, link);
        if (map_get_str(&cg->g->topics, topic)) {
            drop_stale(cg);
            found = true;
        }
    }
    if (found) { /* the append may be refused: then the timer drops what is left */
        c->stale = true;
        if (!timer_armed(&c->expiry)) {
            timer_arm(c->timers, &c->expiry,
                      clock_mono_ms(c->clock) + c->config->offsets_retention_check_ms);
        }
    }
    coord_drain(c);
}

/* ---- time */

void coord_expiry_loaded(struct coord *c)
{
    list_each(link, &c->order)
    {
        c->stale |= count_stale(list_entry(link, struct coord_group, link)) > 0;
    }
    if (c->stale) {
        timer_arm(c->timers, &c->expiry, clock_mono_ms(c->clock));
    }
}

static void expire(struct timer *timer)
{
    struct coord *c = list_entry(timer, struct coord, expiry);
    if (c->stale) {
        c->stale = false;
        list_each_safe(link, after, &c->order)
        {
            drop_stale(list_entry(link, struct coord_group, link));
        }
    }
    list_each_safe(link, after, &c->order) /* a run ends no group but its own */
    {
        struct coord_group *cg = list_entry(link, struct coord_group, link);
        if (can_expire(cg)) {
            coord_run(cg, &(struct group_event){.kind = GROUP_EVENT_EXPIRE});
        }
    }
    coord_drain(c);
}

void coord_expiry_init(struct coord *c)
{
    timer_init(&c->expiry, expire);
}
