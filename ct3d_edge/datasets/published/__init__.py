"""Published datasets, downloaded so that nothing half-finished or hostile gets a name: MosMedData."""
