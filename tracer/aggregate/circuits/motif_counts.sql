-- question: which of the wanted edges do some of the sampled graphs keep, and which of the wanted features do they hold?
-- grain:    graph x edge, and graph x feature, both in the order of the graphs, which are numbered from 0 on
-- cost:     one pass over the sampled graphs' edges, one over the incidence
CREATE OR REPLACE TEMP TABLE motif_counted AS
SELECT graph_idx, row_number() OVER (ORDER BY graph_idx) - 1 AS number FROM {graphs};

CREATE OR REPLACE TEMP TABLE motif_kept AS
SELECT number, item FROM state.motif_edges JOIN motif_counted USING (graph_idx) JOIN wanted_edges USING (source, target)
ORDER BY number;

CREATE OR REPLACE TEMP TABLE motif_held AS
SELECT DISTINCT number, item
FROM state.incidence JOIN motif_counted USING (graph_idx) JOIN wanted_features USING (layer, feature)
ORDER BY number;
