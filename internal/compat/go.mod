module github.com/podplumb/podplumb/internal/compat

go 1.25.0

require github.com/podplumb/podplumb v0.0.0

replace github.com/podplumb/podplumb => ../../
