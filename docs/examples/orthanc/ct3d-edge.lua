-- Sends each CT series that Orthanc has received completely to `ct3d-edge listen`, which sends its report back.
--
-- In Orthanc's configuration:
--   "LuaScripts": ["/etc/orthanc/ct3d-edge.lua"],
--   "DicomModalities": {"ct3d-edge": ["CT3D-EDGE", "127.0.0.1", 11112]},
--   "StableAge": 10
--
-- And the node, Orthanc's own AE title being ORTHANC:
--   ct3d-edge listen --spool /var/lib/ct3d-edge --peer ORTHANC@127.0.0.1 --send-to ORTHANC@127.0.0.1:4242

MODALITY = 'ct3d-edge'

function OnStableSeries(seriesId, tags, metadata)
  -- Reports and maps come back here, too; they are SR and OT.
  if tags['Modality'] ~= 'CT' then
    return
  end

  -- A job of its own: Orthanc goes on meanwhile. A job that failed stays in /jobs, and /jobs/ID/resubmit repeats it.
  local request = { Resources = { seriesId }, Synchronous = false }
  RestApiPost('/modalities/' .. MODALITY .. '/store', DumpJson(request))
end
