#include <stdio.h>

int main(void)
{
	printf("compiled on %s\n", MACHINE);
	return 0;
}
