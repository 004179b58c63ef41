#include "transport/gather_p.h"

void gather_note(struct gather *g, nsec_t now, unsigned n)
{
	nsec_t gap = now > g->last ? now - g->last : 0;
	if (gap > GATHER_GAP_MAX)
		gap = GATHER_GAP_MAX;
	g->last = now;
	g->messages += (uint64_t)n * GATHER_SCALE - g->messages / GATHER_WEIGHT;
	g->ns += gap - g->ns / GATHER_WEIGHT;
}

bool gather_pays(const struct gather *g, nsec_t pause)
{
	return g->messages * pause >= (uint64_t)GATHER_WORTH * GATHER_SCALE * g->ns;
}
