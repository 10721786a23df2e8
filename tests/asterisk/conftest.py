from tests.asterisk.fixtures import asterisk, baresip_root, phone_config, root, sipp

__all__ = ["asterisk", "baresip_root", "phone_config", "root", "sipp"]
