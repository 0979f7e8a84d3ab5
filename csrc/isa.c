#include "isa.h"

#include <string.h>

rmf_visit_known rmf_visit_known_generic, rmf_visit_known_avx2, rmf_visit_known_avx512,
	rmf_visit_known_neon;
rmf_populate rmf_populate_generic, rmf_populate_avx2, rmf_populate_avx512, rmf_populate_neon;

/* the best first */
static const struct rmf_isa isas[] = {
#ifdef __x86_64__
	{ "avx512", rmf_visit_known_avx512, rmf_populate_avx512 },
	{ "avx2", rmf_visit_known_avx2, rmf_populate_avx2 },
#endif
#ifdef __ARM_NEON
	{ "neon", rmf_visit_known_neon, rmf_populate_neon },
#endif
	{ "generic", rmf_visit_known_generic, rmf_populate_generic },
};

static bool has(const struct rmf_isa *isa)
{
#ifdef __x86_64__
	__builtin_cpu_init();
	if (!strcmp(isa->name, "avx512"))
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
	if (!strcmp(isa->name, "avx2"))
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
#endif
	return isa->visit_known;
}

const struct rmf_isa *rmf_isa(unsigned int n)
{
	for (unsigned int i = 0; i < sizeof(isas) / sizeof(isas[0]); i++)
		if (has(&isas[i]) && !n--)
			return &isas[i];
	return NULL;
}
