#include "base/check.h"
#include "base/mem.h"
#include "broker/group/internal.h"

void group_effects_init(struct group_effects *fx)
{
    *fx = (struct group_effects){0};
    arena_init(&fx->arena, SIZE_MAX); /* bounded by what it copies: the group and the event */
}

void group_effects_reset(struct group_effects *fx)
{
    arena_reset(&fx->arena);
    fx->answer_count = 0;
    fx->append_count = 0;
}

void group_effects_finish(struct group_effects *fx)
{
    arena_finish(&fx->arena);
    mem_free(fx->answers);
    mem_free(fx->appends);
    *fx = (struct group_effects){0};
}

void *fx_alloc(struct group_effects *fx, size_t size)
{
    void *p = arena_alloc(&fx->arena, size);
    check(p != NULL);
    return p;
}

struct str fx_str(struct group_effects *fx, struct str s)
{
    if (!s.ptr) {
        return s;
    }
    char *copy = fx_alloc(fx, s.len);
    memcpy(copy, s.ptr, s.len);
    return (struct str){.ptr = copy, .len = s.len};
}

struct bytes fx_bytes(struct group_effects *fx, struct bytes b)
{
    uint8_t *copy = fx_alloc(fx, b.len);
    if (b.len) {
        memcpy(copy, b.ptr, b.len);
    }
    return (struct bytes){.ptr = copy, .len = b.len};
}

struct group_answer *fx_answer(struct group_effects *fx, uint64_t token, enum group_error error)
{
    check(token != 0);
    if (fx->answer_count == fx->answer_size) {
        fx->answer_size = fx->answer_size ? fx->answer_size * 2 : 8;
        fx->answers = mem_need_resize(fx->answers, fx->answer_size * sizeof *fx->answers);
    }
    struct group_answer *a = &fx->answers[fx->answer_count++];
    *a = (struct group_answer){
        .token = token, .error = error, .generation = -1, .member_id = STR(""), .leader = STR("")};
    return a;
}

void fx_answer_if(struct group_effects *fx, uint64_t token, enum group_error error)
{
    if (token) {
        fx_answer(fx, token, error);
    }
}

struct group_write *fx_append(struct group *g, struct group_effects *fx, enum write_kind kind,
                              uint64_t token, const struct group_record *records, size_t count)
{
    check(count > 0);
    if (fx->append_count == fx->append_size) {
        fx->append_size = fx->append_size ? fx->append_size * 2 : 4;
        fx->appends = mem_need_resize(fx->appends, fx->append_size * sizeof *fx->appends);
    }
    struct group_write *w = mem_need_zero(1, sizeof *w);
    w->id = g->next_write_id++;
    w->kind = kind;
    w->token = token;
    w->generation = g->generation;
    list_push(&g->writes, &w->link);
    fx->appends[fx->append_count++] =
        (struct group_append){.write_id = w->id, .records = records, .record_count = count};
    return w;
}

void write_destroy(struct group_write *w)
{
    mem_free(w->touched);
    member_destroy(w->member);
    str_disown(&w->replaced_id);
    mem_free(w->leave_errors);
    mem_free(w);
}
